SELECT '{{query_id}}' AS query_id, 'polygon-source' AS query_name,
    x.sourceId, x.coord_ra, x.coord_dec
FROM dp02_dc2_catalogs.Source AS x
WHERE CONTAINS(POINT('ICRS', x.coord_ra, x.coord_dec), POLYGON('ICRS', {{polygon}})) = 1

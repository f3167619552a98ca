SELECT '{{query_id}}' AS query_id, 'polygon-object' AS query_name,
    x.objectId, x.coord_ra, x.coord_dec
FROM dp02_dc2_catalogs.Object AS x
WHERE CONTAINS(POINT('ICRS', x.coord_ra, x.coord_dec), POLYGON('ICRS', {{polygon}})) = 1

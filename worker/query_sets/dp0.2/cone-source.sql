SELECT '{{query_id}}' AS query_id, 'cone-source' AS query_name,
    x.sourceId, x.coord_ra, x.coord_dec
FROM dp02_dc2_catalogs.Source AS x
WHERE CONTAINS(POINT('ICRS', x.coord_ra, x.coord_dec), CIRCLE('ICRS', {{ra}}, {{dec}}, {{radius}})) = 1

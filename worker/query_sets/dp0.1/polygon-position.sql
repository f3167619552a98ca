SELECT '{{query_id}}' AS query_id, 'polygon-position' AS query_name,
    p.objectId, p.coord_ra, p.coord_dec
FROM dp01_dc2_catalogs.position AS p
WHERE CONTAINS(POINT('ICRS', p.coord_ra, p.coord_dec), POLYGON('ICRS', {{polygon}})) = 1

SELECT '{{query_id}}' AS query_id, 'polygon-object' AS query_name,
    o.objectId, o.ra, o.dec, o.mag_i
FROM dp01_dc2_catalogs.object AS o
WHERE CONTAINS(POINT('ICRS', o.ra, o.dec), POLYGON('ICRS', {{polygon}})) = 1

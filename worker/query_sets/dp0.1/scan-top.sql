SELECT TOP 12 '{{query_id}}' AS query_id, 'scan-top' AS query_name,
    o.objectId, o.mag_i
FROM dp01_dc2_catalogs.object AS o
WHERE o.mag_i IS NOT NULL
ORDER BY o.mag_i

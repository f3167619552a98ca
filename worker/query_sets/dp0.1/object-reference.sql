SELECT '{{query_id}}' AS query_id, 'object-reference' AS query_name,
    o.objectId, o.ra, o.dec, r.*
FROM dp01_dc2_catalogs.object AS o
JOIN dp01_dc2_catalogs.reference AS r ON r.objectId = o.objectId
WHERE o.objectId = {{object}}

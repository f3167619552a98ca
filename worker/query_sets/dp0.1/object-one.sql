SELECT '{{query_id}}' AS query_id, 'object-one' AS query_name,
    o.*
FROM dp01_dc2_catalogs.object AS o
WHERE o.objectId = {{object}}

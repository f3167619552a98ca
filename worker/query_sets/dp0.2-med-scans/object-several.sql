SELECT '{{query_id}}' AS query_id, 'object-several' AS query_name,
    o.*
FROM dp02_dc2_catalogs.Object AS o
WHERE o.objectId IN ({{objects}})

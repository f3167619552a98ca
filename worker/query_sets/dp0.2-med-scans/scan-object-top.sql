SELECT TOP 12 '{{query_id}}' AS query_id, 'scan-object-top' AS query_name,
    o.objectId, o.i_cModelFlux AS flux
FROM dp02_dc2_catalogs.Object AS o
WHERE o.i_cModelFlux IS NOT NULL
ORDER BY o.i_cModelFlux DESC

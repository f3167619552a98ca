SELECT '{{query_id}}' AS query_id, 'scan-object' AS query_name,
    o.objectId, o.i_cModelFlux AS flux
FROM dp02_dc2_catalogs.Object AS o
WHERE o.i_cModelFlux BETWEEN {{min_flux}} AND {{max_flux}}

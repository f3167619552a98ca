SELECT '{{query_id}}' AS query_id, 'object-photometry' AS query_name,
    o.objectId, o.ra, o.dec, f.*
FROM dp01_dc2_catalogs.object AS o
JOIN dp01_dc2_catalogs.forced_photometry AS f ON f.objectId = o.objectId
WHERE o.objectId IN ({{objects}})

SELECT '{{query_id}}' AS query_id, 'scan-forcedsource' AS query_name,
    s.forcedSourceId, s.psfFlux AS flux
FROM dp02_dc2_catalogs.ForcedSource AS s
WHERE s.psfFlux BETWEEN {{min_flux}} AND {{max_flux}}

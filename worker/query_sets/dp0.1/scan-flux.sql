SELECT '{{query_id}}' AS query_id, 'scan-flux' AS query_name,
    f.objectId, f.i_modelfit_CModel_instFlux AS flux
FROM dp01_dc2_catalogs.forced_photometry AS f
WHERE f.i_modelfit_CModel_instFlux BETWEEN {{min_flux}} AND {{max_flux}}

SELECT '{{query_id}}' AS query_id, 'histogram-flux' AS query_name,
    FLOOR(f.i_modelfit_CModel_instFlux / 100.0) AS bin, COUNT(*) AS members
FROM dp01_dc2_catalogs.forced_photometry AS f
GROUP BY bin

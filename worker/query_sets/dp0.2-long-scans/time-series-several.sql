SELECT '{{query_id}}' AS query_id, 'time-series-several' AS query_name,
    o.objectId, o.coord_ra, o.coord_dec, s.forcedSourceId, s.band, s.psfFlux, s.psfFluxErr
FROM dp02_dc2_catalogs.Object AS o
JOIN dp02_dc2_catalogs.ForcedSource AS s ON s.objectId = o.objectId
WHERE o.objectId IN ({{objects}})

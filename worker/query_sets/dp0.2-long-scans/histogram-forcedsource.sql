SELECT '{{query_id}}' AS query_id, 'histogram-forcedsource' AS query_name,
    FLOOR(s.psfFlux / 100.0) AS bin, COUNT(*) AS members
FROM dp02_dc2_catalogs.ForcedSource AS s
GROUP BY bin

SELECT '{{query_id}}' AS query_id, 'histogram-object' AS query_name,
    FLOOR(o.i_cModelFlux / 100.0) AS bin, COUNT(*) AS members
FROM dp02_dc2_catalogs.Object AS o
GROUP BY bin

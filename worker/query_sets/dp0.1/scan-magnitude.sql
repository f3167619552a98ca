SELECT '{{query_id}}' AS query_id, 'scan-magnitude' AS query_name,
    o.objectId, o.mag_i, t.mag_i AS true_magnitude
FROM dp01_dc2_catalogs.object AS o
JOIN dp01_dc2_catalogs.truth_match AS t ON t.match_objectId = o.objectId
WHERE o.mag_i BETWEEN {{min_mag}} AND {{max_mag}}

SELECT '{{query_id}}' AS query_id, 'histogram-magnitude' AS query_name,
    FLOOR(2 * o.mag_i) AS half_magnitude, COUNT(*) AS members
FROM dp01_dc2_catalogs.object AS o
JOIN dp01_dc2_catalogs.truth_match AS t ON t.match_objectId = o.objectId
WHERE t.is_good_match = 1
GROUP BY half_magnitude

SELECT '{{query_id}}' AS query_id, 'neighbor-near' AS query_name,
    a.objectId AS first_id, b.objectId AS second_id,
    DISTANCE(POINT('ICRS', a.ra, a.dec), POINT('ICRS', b.ra, b.dec)) AS apart
FROM dp01_dc2_catalogs.object AS a, dp01_dc2_catalogs.object AS b
WHERE CONTAINS(POINT('ICRS', a.ra, a.dec), CIRCLE('ICRS', {{ra}}, {{dec}}, {{radius_near}})) = 1
    AND DISTANCE(POINT('ICRS', a.ra, a.dec), POINT('ICRS', b.ra, b.dec)) < 0.003
    AND a.objectId < b.objectId

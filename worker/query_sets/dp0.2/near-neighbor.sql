SELECT '{{query_id}}' AS query_id, 'neighbor-near' AS query_name,
    a.objectId AS first_id, b.objectId AS second_id,
    DISTANCE(POINT('ICRS', a.coord_ra, a.coord_dec), POINT('ICRS', b.coord_ra, b.coord_dec)) AS apart
FROM dp02_dc2_catalogs.Object AS a, dp02_dc2_catalogs.Object AS b
WHERE CONTAINS(POINT('ICRS', a.coord_ra, a.coord_dec), CIRCLE('ICRS', {{ra}}, {{dec}}, {{radius_near}})) = 1
    AND DISTANCE(POINT('ICRS', a.coord_ra, a.coord_dec), POINT('ICRS', b.coord_ra, b.coord_dec)) < 0.003
    AND a.objectId < b.objectId

SELECT '{{query_id}}' AS query_id, 'cone-photometry' AS query_name,
    f.*
FROM dp01_dc2_catalogs.forced_photometry AS f
WHERE CONTAINS(POINT('ICRS', f.coord_ra, f.coord_dec), CIRCLE('ICRS', {{ra}}, {{dec}}, {{radius}})) = 1

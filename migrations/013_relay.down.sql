DROP FUNCTION IF EXISTS edge_relay_job(bigint, integer, boolean);

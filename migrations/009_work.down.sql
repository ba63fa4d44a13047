DROP FUNCTION IF EXISTS edge_purge(integer);
DROP FUNCTION IF EXISTS edge_next_job();
DROP FUNCTION IF EXISTS edge_fail_job(bigint, integer, text, integer);
DROP FUNCTION IF EXISTS edge_finish_job(bigint, integer, text, text, jsonb);
DROP FUNCTION IF EXISTS edge_extend_job(bigint, integer, integer);
DROP FUNCTION IF EXISTS edge_claim_job(text, integer);
DROP FUNCTION IF EXISTS edge_bury_job(bigint, text);

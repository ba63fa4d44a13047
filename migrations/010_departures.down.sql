DROP FUNCTION IF EXISTS edge_remove_user_files(integer, integer);
DROP FUNCTION IF EXISTS edge_receive_event(text, text, text, bigint, text,
                                           boolean, text, text, integer);
DROP FUNCTION IF EXISTS edge_take_job(text, integer);
ALTER TABLE IF EXISTS edge_jobs DROP COLUMN IF EXISTS args;

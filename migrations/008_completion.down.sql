DROP FUNCTION IF EXISTS edge_settle_deletion(bigint);
DROP FUNCTION IF EXISTS edge_delete_fit(integer, bigint);
DROP FUNCTION IF EXISTS edge_complete_upload(integer, bigint, text, bigint,
                                             text, text, text, timestamptz);
DROP FUNCTION IF EXISTS edge_lock_activity(bigint);
DROP FUNCTION IF EXISTS edge_activity(text, bigint, bigint);

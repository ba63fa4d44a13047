DROP FUNCTION IF EXISTS edge_settle_upload(integer, bigint, text, bigint, text,
                                           text, timestamptz, timestamptz);
DROP FUNCTION IF EXISTS edge_confirm_upload(integer, bigint, text, bigint, text,
                                            text, timestamptz);
DROP FUNCTION IF EXISTS edge_announce(text, text, jsonb, integer);
DROP FUNCTION IF EXISTS edge_cursor(text);
DROP TABLE IF EXISTS edge_cursors;

DROP FUNCTION IF EXISTS edge_apply_clerk_event(text, text, text, bigint, text,
                                               boolean, text, json);
DROP FUNCTION IF EXISTS edge_put_user(text, text, boolean, text);
DROP FUNCTION IF EXISTS edge_person(text, bigint);
DROP FUNCTION IF EXISTS edge_user_unused(integer);
DROP FUNCTION IF EXISTS edge_synthetic_email(text);
DROP FUNCTION IF EXISTS edge_lock_email(text);
DROP FUNCTION IF EXISTS edge_lock_clerk_id(text);

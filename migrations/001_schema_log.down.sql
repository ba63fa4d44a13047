DROP FUNCTION IF EXISTS edge_drop_additions(text);
DROP FUNCTION IF EXISTS edge_add_index(text, text, text, text, boolean);
DROP FUNCTION IF EXISTS edge_add_column(text, text, text, text);
DROP FUNCTION IF EXISTS edge_add_table(text, text);
DROP TABLE IF EXISTS edge_schema_additions;

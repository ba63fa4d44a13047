DROP FUNCTION IF EXISTS edge_move_file(integer, text, bigint, text, text,
                                       boolean);

DROP TABLE IF EXISTS edge_inbox;
DROP TABLE IF EXISTS edge_identity;

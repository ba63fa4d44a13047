DROP TABLE IF EXISTS edge_uploads;

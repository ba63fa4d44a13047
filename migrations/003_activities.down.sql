SELECT edge_drop_additions('003_activities');

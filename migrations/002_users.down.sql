SELECT edge_drop_additions('002_users');

-- On an existing schema most of these are there already and stay as they are.
-- Definitions keep to what ADD COLUMN does without rewriting the table.

DO $$
DECLARE
    m  CONSTANT text := '002_users';
    t  CONSTANT text := 'users';
BEGIN
    PERFORM edge_add_table(m, t);

    PERFORM edge_add_column(m, t, 'email', 'varchar(255) NOT NULL');
    PERFORM edge_add_column(m, t, 'password_hash', 'varchar(255)');
    PERFORM edge_add_column(m, t, 'display_name', 'varchar(100)');
    PERFORM edge_add_column(m, t, 'timezone',
                            'varchar(50) NOT NULL DEFAULT ''Asia/Seoul''');
    PERFORM edge_add_column(m, t, 'clerk_user_id', 'varchar(255)');
    PERFORM edge_add_column(m, t, 'last_login_at', 'timestamptz');
    PERFORM edge_add_column(m, t, 'birth_year', 'integer');
    PERFORM edge_add_column(m, t, 'gender', 'varchar(10)');
    PERFORM edge_add_column(m, t, 'max_hr', 'integer');
    PERFORM edge_add_column(m, t, 'resting_hr', 'integer');
    PERFORM edge_add_column(m, t, 'threshold_pace', 'integer');
    PERFORM edge_add_column(m, t, 'created_at',
                            'timestamptz NOT NULL DEFAULT now()');
    PERFORM edge_add_column(m, t, 'updated_at',
                            'timestamptz NOT NULL DEFAULT now()');

    PERFORM edge_add_index(m, t, 'edge_users_email', 'email', true);
    PERFORM edge_add_index(m, t, 'edge_users_clerk_user_id',
                           'clerk_user_id', true);
    PERFORM edge_add_index(m, t, 'edge_users_lower_email',
                           'lower(email::text)');
END
$$;

DO $$
DECLARE
    m      CONSTANT text := '003_activities';
    t      CONSTANT text := 'activities';
    v_new  boolean;
    c      text[];
BEGIN
    v_new := edge_add_table(m, t);

    FOREACH c SLICE 1 IN ARRAY ARRAY[
        ['user_id',                  'integer NOT NULL REFERENCES users (id)'],
        ['garmin_id',                'bigint NOT NULL'],
        ['activity_type',            'varchar(50) NOT NULL'],
        ['name',                     'varchar(200)'],
        ['start_time',               'timestamptz NOT NULL'],

        ['duration_seconds',         'integer'],
        ['elapsed_seconds',          'integer'],
        ['distance_meters',          'double precision'],
        ['calories',                 'integer'],
        ['avg_hr',                   'integer'],
        ['max_hr',                   'integer'],
        ['avg_pace_seconds',         'integer'],
        ['best_pace_seconds',        'integer'],
        ['elevation_gain',           'double precision'],
        ['elevation_loss',           'double precision'],
        ['avg_cadence',              'integer'],
        ['max_cadence',              'integer'],
        ['avg_power',                'integer'],
        ['max_power',                'integer'],
        ['normalized_power',         'integer'],
        ['training_effect_aerobic',  'double precision'],
        ['training_effect_anaerobic', 'double precision'],
        ['vo2max',                   'double precision'],
        ['training_stress_score',    'double precision'],
        ['intensity_factor',         'double precision'],
        ['avg_ground_contact_time',  'integer'],
        ['avg_vertical_oscillation', 'double precision'],
        ['avg_stride_length',        'double precision'],
        ['avg_form_power',           'integer'],
        ['avg_leg_spring_stiffness', 'double precision'],

        ['fit_file_path',            'varchar(500)'],
        ['fit_file_hash',            'varchar(64)'],
        ['fit_file_content',         'bytea'],
        ['fit_file_size',            'integer'],
        ['has_fit_file',             'boolean NOT NULL DEFAULT false'],
        ['r2_key',                   'varchar(500)'],
        ['storage_provider',         'varchar(20)'],
        ['storage_metadata',         'json'],
        ['has_stryd',                'boolean NOT NULL DEFAULT false'],
        ['has_external_hr',          'boolean NOT NULL DEFAULT false'],
        ['raw_event_id',             'integer'],
        ['created_at',               'timestamptz NOT NULL DEFAULT now()'],
        ['updated_at',               'timestamptz NOT NULL DEFAULT now()'],

        ['fit_file_key',             'varchar(500)'],
        ['fit_file_status',          'varchar(20)'],
        ['fit_file_checksum',        'varchar(64)'],
        ['fit_file_etag',            'varchar(255)'],
        ['fit_uploaded_at',          'timestamptz'],
        ['fit_analyzed_at',          'timestamptz'],
        ['fit_error',                'text'],
        ['fit_analysis',             'jsonb']
    ]
    LOOP
        PERFORM edge_add_column(m, t, c[1], c[2]);
    END LOOP;

    -- a large table of somebody else is not locked for building an index

    IF v_new THEN
        PERFORM edge_add_index(m, t, 'edge_activities_user_id_garmin_id',
                               'user_id, garmin_id', true);
    END IF;
END
$$;

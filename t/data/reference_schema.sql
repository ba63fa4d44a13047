-- What the existing application has in its database, as far as the edge meets
-- it: serial ids, booleans and a time zone that are NOT NULL without a default
-- on the server, and tables of its own that refer to users.

CREATE TABLE users (
    id              serial PRIMARY KEY,
    email           varchar(255) NOT NULL,
    password_hash   varchar(255),
    display_name    varchar(100),
    timezone        varchar(50) NOT NULL,
    last_login_at   timestamptz,
    birth_year      integer,
    gender          varchar(10),
    max_hr          integer,
    resting_hr      integer,
    threshold_pace  integer,
    created_at      timestamptz DEFAULT now() NOT NULL,
    updated_at      timestamptz DEFAULT now() NOT NULL
);

CREATE UNIQUE INDEX ix_users_email ON users (email);

CREATE TABLE garmin_raw_events (
    id           serial PRIMARY KEY,
    user_id      integer NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    endpoint     varchar(100) NOT NULL,
    payload      json
);

CREATE TABLE activities (
    id                        serial PRIMARY KEY,
    user_id                   integer NOT NULL
                              REFERENCES users (id) ON DELETE CASCADE,
    garmin_id                 bigint NOT NULL,
    activity_type             varchar(50) NOT NULL,
    name                      varchar(200),
    start_time                timestamptz NOT NULL,
    duration_seconds          integer,
    elapsed_seconds           integer,
    distance_meters           double precision,
    calories                  integer,
    avg_hr                    integer,
    max_hr                    integer,
    avg_pace_seconds          integer,
    best_pace_seconds         integer,
    elevation_gain            double precision,
    elevation_loss            double precision,
    avg_cadence               integer,
    max_cadence               integer,
    avg_power                 integer,
    max_power                 integer,
    normalized_power          integer,
    training_effect_aerobic   double precision,
    training_effect_anaerobic double precision,
    vo2max                    double precision,
    training_stress_score     double precision,
    intensity_factor          double precision,
    avg_ground_contact_time   integer,
    avg_vertical_oscillation  double precision,
    avg_stride_length         double precision,
    avg_form_power            integer,
    avg_leg_spring_stiffness  double precision,
    fit_file_path             varchar(500),
    fit_file_hash             varchar(64),
    fit_file_content          bytea,
    fit_file_size             integer,
    has_fit_file              boolean NOT NULL,
    r2_key                    varchar(500),
    storage_provider          varchar(20),
    storage_metadata          json,
    has_stryd                 boolean NOT NULL,
    has_external_hr           boolean NOT NULL,
    raw_event_id              integer REFERENCES garmin_raw_events (id),
    created_at                timestamptz DEFAULT now() NOT NULL,
    updated_at                timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT uq_activities_user_id_garmin_id UNIQUE (user_id, garmin_id)
);

CREATE INDEX ix_activities_user_id ON activities (user_id);
CREATE INDEX ix_activities_start_time ON activities (start_time);

CREATE TABLE activity_samples (
    id            serial PRIMARY KEY,
    activity_id   integer NOT NULL REFERENCES activities (id) ON DELETE CASCADE,
    "timestamp"   timestamptz NOT NULL,
    heart_rate    integer
);

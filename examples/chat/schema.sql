CREATE TABLE messages (
    id serial PRIMARY KEY,
    author text NOT NULL,
    body text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

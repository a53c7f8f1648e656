CREATE TABLE readings (
    sensor text,
    taken_at timestamptz,
    celsius real NOT NULL,
    PRIMARY KEY (sensor, taken_at)
);

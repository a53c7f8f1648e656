CREATE TABLE entries (
    id serial PRIMARY KEY,
    name text NOT NULL,
    words text NOT NULL
);

CREATE TABLE orders (
    id serial PRIMARY KEY,
    item text NOT NULL,
    cents bigint NOT NULL CHECK (cents > 0)
);

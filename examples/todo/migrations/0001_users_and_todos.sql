CREATE TABLE users (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text    NOT NULL CONSTRAINT users_name_is_unique UNIQUE
);

CREATE TABLE todos (
    id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner integer NOT NULL CONSTRAINT todos_owner_exists REFERENCES users (id) ON DELETE CASCADE,
    title text    NOT NULL,
    done  boolean NOT NULL DEFAULT false
);

CREATE INDEX todos_by_owner ON todos (owner, id);

-- Users pay each other in points for doing their todos; everybody starts with ten.
ALTER TABLE users
    ADD COLUMN points integer NOT NULL DEFAULT 10
        CONSTRAINT users_points_are_not_negative CHECK (points >= 0);

-- What was paid, for good: rows are only ever added.
CREATE TABLE transfers (
    id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender    integer NOT NULL CONSTRAINT transfers_sender_exists REFERENCES users (id),
    recipient integer NOT NULL CONSTRAINT transfers_recipient_exists REFERENCES users (id),
    points    integer NOT NULL CHECK (points > 0),
    CHECK (sender <> recipient)
);

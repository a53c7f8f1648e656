CREATE TABLE accounts (
    id serial PRIMARY KEY,
    email text NOT NULL UNIQUE
);

-- Mails wait here for whoever sends them.
CREATE TABLE mails (
    id serial PRIMARY KEY,
    recipient text NOT NULL,
    body text NOT NULL
);

-- What a mail proves: that its reader is the owner of the account.
CREATE TABLE codes (
    code text PRIMARY KEY DEFAULT gen_random_uuid(),
    account integer NOT NULL REFERENCES accounts,
    made_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sessions (
    token text PRIMARY KEY DEFAULT gen_random_uuid(),
    account integer NOT NULL REFERENCES accounts,
    made_at timestamptz NOT NULL DEFAULT now()
);

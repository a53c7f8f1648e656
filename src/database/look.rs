//! What a database holds that a multiplexer has to know of, and that nothing but its preparation changes.

use tokio_postgres::Client;

use crate::error::Result;
use crate::mux::Reads;

/// Routines, but for those of an extension that are of C or not volatile, and for triggers that plainly define nothing;
/// operators, casts, views, policies and domains that call what is volatile; foreign tables.
const MAY_WRITE_WHEN_READ: &str = "
    SELECT EXISTS (SELECT FROM pg_catalog.pg_foreign_table)
    OR EXISTS (
        SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        WHERE p.oid >= 16384
        AND NOT (
            l.lanname = 'plpgsql' AND p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype
            AND p.prosrc !~* '\\m(alter|create|execute|import)\\M')
        AND NOT (
            (l.lanname IN ('c', 'internal') OR p.provolatile <> 'v')
            AND EXISTS (
                SELECT FROM pg_catalog.pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e'
                AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass)))
    OR EXISTS (
        SELECT FROM (
            SELECT o.oprcode::pg_catalog.oid FROM pg_catalog.pg_operator o WHERE o.oid >= 16384
            UNION ALL SELECT c.castfunc FROM pg_catalog.pg_cast c WHERE c.oid >= 16384
            UNION ALL SELECT called[1]::pg_catalog.oid FROM (
                SELECT r.ev_action::text FROM pg_catalog.pg_rewrite r WHERE r.oid >= 16384
                UNION ALL SELECT p.polqual::text FROM pg_catalog.pg_policy p
                UNION ALL SELECT c.conbin::text FROM pg_catalog.pg_constraint c WHERE c.contypid <> 0
            ) AS expressions (tree), pg_catalog.regexp_matches(tree, ':funcid (\\d+)', 'g') AS called
        ) AS used (routine) JOIN pg_catalog.pg_proc p ON p.oid = used.routine
        WHERE p.provolatile = 'v')";

/// Whether the database that the client is connected to holds what may write when it's read.
pub(super) async fn reads(client: &Client) -> Result<Reads> {
    let rows = client.query_typed(MAY_WRITE_WHEN_READ, &[]).await?;
    Ok(match rows.first().map(|row| row.get(0)) {
        Some(false) => Reads::Pure,
        Some(true) | None => Reads::Doubtful,
    })
}

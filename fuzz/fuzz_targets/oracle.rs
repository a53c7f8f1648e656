//! Tokens, statements and their kinds are those that PostgreSQL's own parser finds.

#![no_main]

use actix_shareddb::__fuzzing::{command, statements, tokens};
use libfuzzer_sys::fuzz_target;
use pg_query::NodeEnum;
use pg_query::protobuf::{Token, TransactionStmtKind};

fuzz_target!(|text: &str| {
    if !text.contains('\0') {
        check_tokens(text);
        check_statements(text);
    }
});

fn check_tokens(text: &str) {
    let Ok(scanned) = pg_query::scan(text) else {
        return;
    };
    let comments = [Token::SqlComment as i32, Token::CComment as i32];
    let place = |place: i32| usize::try_from(place).expect("it stands in the text");
    let theirs: Vec<_> = scanned
        .tokens
        .iter()
        .filter(|token| !comments.contains(&token.token))
        .map(|token| place(token.start)..place(token.end))
        .collect();
    assert_eq!(tokens(text), theirs);
}

fn check_statements(text: &str) {
    let Ok(parsed) = pg_query::parse(text) else {
        return;
    };
    let ours = statements(text);
    let theirs = &parsed.protobuf.stmts;
    assert_eq!(ours.len(), theirs.len(), "{ours:?} {theirs:?}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        let start = usize::try_from(theirs.stmt_location).expect("it stands in the text");
        let length = usize::try_from(theirs.stmt_len).expect("a length");
        let end = if length == 0 {
            text.len()
        } else {
            start + length
        };
        assert!(
            start <= ours.start && ours.end <= end,
            "{ours:?} {theirs:?}"
        );
        let node = theirs.stmt.as_ref().and_then(|stmt| stmt.node.as_ref());
        let command = command(&text[ours.clone()]);
        let kind = node.map_or("Other", kind);
        let found = command.split([' ', '(']).next().unwrap_or_default();
        assert!(
            kind == found || kind == "Other" && !EXACT.contains(&found),
            "{:?} is {command}, and to PostgreSQL {node:?}",
            &text[ours.clone()]
        );
    }
}

/// The kinds that are told from the parser's tree as well.
const EXACT: [&str; 21] = [
    "Begin",
    "Commit",
    "Rollback",
    "Savepoint",
    "Release",
    "RollbackTo",
    "PrepareTransaction",
    "CommitPrepared",
    "RollbackPrepared",
    "Prepare",
    "Execute",
    "Deallocate",
    "DeallocateAll",
    "Listen",
    "Unlisten",
    "UnlistenAll",
    "Notify",
    "DeclareCursor",
    "CloseCursor",
    "CloseAll",
    "CopyFromStdin",
];

fn kind(node: &NodeEnum) -> &'static str {
    match node {
        NodeEnum::TransactionStmt(transaction) => match transaction.kind() {
            TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart => "Begin",
            TransactionStmtKind::TransStmtCommit => "Commit",
            TransactionStmtKind::TransStmtRollback => "Rollback",
            TransactionStmtKind::TransStmtSavepoint => "Savepoint",
            TransactionStmtKind::TransStmtRelease => "Release",
            TransactionStmtKind::TransStmtRollbackTo => "RollbackTo",
            TransactionStmtKind::TransStmtPrepare => "PrepareTransaction",
            TransactionStmtKind::TransStmtCommitPrepared => "CommitPrepared",
            TransactionStmtKind::TransStmtRollbackPrepared => "RollbackPrepared",
            TransactionStmtKind::Undefined => "Other",
        },
        NodeEnum::PrepareStmt(_) => "Prepare",
        NodeEnum::ExecuteStmt(_) => "Execute",
        NodeEnum::DeallocateStmt(statement) if statement.name.is_empty() => "DeallocateAll",
        NodeEnum::DeallocateStmt(_) => "Deallocate",
        NodeEnum::ListenStmt(_) => "Listen",
        NodeEnum::UnlistenStmt(statement) if statement.conditionname.is_empty() => "UnlistenAll",
        NodeEnum::UnlistenStmt(_) => "Unlisten",
        NodeEnum::NotifyStmt(_) => "Notify",
        NodeEnum::DeclareCursorStmt(_) => "DeclareCursor",
        NodeEnum::ClosePortalStmt(statement) if statement.portalname.is_empty() => "CloseAll",
        NodeEnum::ClosePortalStmt(_) => "CloseCursor",
        NodeEnum::CopyStmt(copy)
            if copy.is_from && copy.filename.is_empty() && !copy.is_program =>
        {
            "CopyFromStdin"
        }
        _ => "Other",
    }
}

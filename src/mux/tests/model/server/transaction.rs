//! The transactions and savepoints of the model of a server.

use super::statement::Statement;
use super::{Deed, Mark, Outcome, Server, Transaction, error};

impl Server {
    pub(super) fn control(&mut self, statement: &Statement) -> Outcome<&'static str> {
        Ok(match statement {
            Statement::Begin => {
                match self.transaction {
                    Transaction::Block => {
                        self.warn("25001", "there is already a transaction in progress");
                    }
                    _ => self.transaction = Transaction::Block,
                }
                "BEGIN"
            }
            Statement::Commit { chain } => {
                self.chains(*chain, "COMMIT AND CHAIN")?;
                if self.transaction == Transaction::Failed {
                    self.end_block(false, *chain)?;
                    return Ok("ROLLBACK");
                }
                self.end_block(true, *chain)?;
                "COMMIT"
            }
            Statement::Rollback { chain } => {
                self.chains(*chain, "ROLLBACK AND CHAIN")?;
                self.end_block(false, *chain)?;
                "ROLLBACK"
            }
            Statement::Savepoint(name) => {
                self.needs_block("SAVEPOINT")?;
                self.savepoints.push((name.clone(), self.mark()));
                "SAVEPOINT"
            }
            Statement::Release(name) => {
                self.needs_block("RELEASE SAVEPOINT")?;
                let position = self.savepoint(name)?;
                self.savepoints.truncate(position);
                self.lower_portals(position);
                "RELEASE"
            }
            Statement::RollbackTo(name) => {
                self.needs_block("ROLLBACK TO SAVEPOINT")?;
                let position = self.savepoint(name)?;
                self.undo_to(self.savepoints[position].1);
                self.savepoints.truncate(position + 1);
                self.drop_portals_above(position);
                self.transaction = Transaction::Block;
                "ROLLBACK"
            }
            _ => unreachable!("it controls no transactions"),
        })
    }

    fn end_block(&mut self, keeps: bool, chain: bool) -> Outcome {
        let is_implicit = matches!(
            self.transaction,
            Transaction::Started | Transaction::ImplicitBlock
        );
        if is_implicit {
            self.warn("25P01", "there is no transaction in progress");
        }
        if keeps {
            self.commit()?;
        } else {
            self.end(false);
        }
        if chain {
            self.start();
            self.transaction = Transaction::Block;
        }
        Ok(())
    }

    fn chains(&self, chain: bool, command: &str) -> Outcome {
        if chain {
            self.needs_block(command)
        } else {
            Ok(())
        }
    }

    pub(super) fn needs_block(&self, command: &str) -> Outcome {
        match self.transaction {
            Transaction::Block | Transaction::Failed => Ok(()),
            _ => error(
                "25P01",
                format!("{command} can only be used in transaction blocks"),
            ),
        }
    }

    fn savepoint(&self, name: &str) -> Outcome<usize> {
        let position = self.savepoints.iter().rposition(|(known, _)| known == name);
        match position {
            Some(position) => Ok(position),
            None => error("3B001", format!("savepoint \"{name}\" does not exist")),
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            rows: self.rows.len(),
            deeds: self.deeds.len(),
        }
    }

    pub(super) fn undo_to(&mut self, mark: Mark) {
        self.rows.truncate(mark.rows);
        self.deeds.truncate(mark.deeds);
    }

    pub(super) fn start(&mut self) {
        if self.transaction == Transaction::None {
            self.transaction = Transaction::Started;
            self.begun = self.mark();
        }
    }

    pub(super) fn check_constraints(&self) -> Outcome {
        match self.rows.iter().any(|row| self.violations.contains(row)) {
            true => error("23503", "a deferred constraint is violated"),
            false => Ok(()),
        }
    }

    /// Ends the transaction well, unless something that was deferred is wrong.
    pub(super) fn commit(&mut self) -> Outcome {
        let outcome = self.check_constraints();
        self.end(outcome.is_ok());
        outcome
    }

    pub(super) fn end(&mut self, keeps: bool) {
        if !keeps && self.transaction != Transaction::None {
            self.undo_to(self.begun);
        }
        for deed in std::mem::take(&mut self.deeds) {
            match deed {
                Deed::Listen(channel) => drop(self.channels.insert(channel)),
                Deed::UnlistenAll => self.channels.clear(),
                Deed::Notify(channel, payload) => self.undelivered.push((channel, payload)),
            }
        }
        let channels = &self.channels;
        self.undelivered
            .retain(|(channel, _)| channels.contains(channel));
        self.transaction = Transaction::None;
        self.savepoints.clear();
        self.portals.clear();
    }
}

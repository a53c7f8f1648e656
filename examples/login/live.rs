//! Live tests: they read the mails that the application wrote, and turn back its clock, in the tables.

use std::net::TcpListener;

use actix_shareddb::{LiveServer, LiveServerTestCase, Pool, Result, Schema, live_server};
use actix_web::cookie::Cookie;
use actix_web::dev::Server;

#[derive(Default)]
struct Login;

impl LiveServerTestCase for Login {
    fn schema() -> Schema {
        Schema::dir("examples/login")
    }

    fn serve(&self, listener: TcpListener, pool: Pool) -> std::io::Result<Server> {
        super::run(listener, pool)
    }

    async fn set_up(&mut self, live: &LiveServer) -> Result<()> {
        let insert =
            "INSERT INTO accounts (email) VALUES ('alice@example.com'), ('bob@example.com')";
        live.pool().get().await?.execute(insert, &[]).await?;
        Ok(())
    }
}

/// Asks for a mail, and takes the link out of it.
async fn link(live: &LiveServer, email: &str) -> Result<String> {
    let asked = live.post("/login").send_form(&[("email", email)]).await?;
    assert_eq!(asked.status(), 202);
    let client = live.pool().get().await?;
    let select = "SELECT body FROM mails WHERE recipient = $1 ORDER BY id DESC LIMIT 1";
    Ok(client.query_one(select, &[&email]).await?.get("body"))
}

/// The cookie of a new session.
async fn log_in(live: &LiveServer, email: &str) -> Result<Cookie<'static>> {
    let link = link(live, email).await?;
    let entered = live.get(&link).send().await?;
    assert_eq!(entered.status(), 303);
    assert_eq!(entered.headers().get("location").unwrap(), "/me");
    Ok(entered.cookie("session").unwrap())
}

/// What `/me` answers to whoever brings this cookie: a status and a body.
async fn me(live: &LiveServer, cookie: &Cookie<'static>) -> Result<(u16, String)> {
    let mut response = live.get("/me").cookie(cookie.clone()).send().await?;
    let body = response.body().await?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok((response.status().as_u16(), body))
}

live_server! {
    impl Login {
        async fn the_link_in_the_mail_logs_in(&mut self, live: &LiveServer) -> Result<()> {
            let alice = log_in(live, "alice@example.com").await?;
            let bob = log_in(live, "bob@example.com").await?;
            assert_eq!(me(live, &alice).await?, (200, "alice@example.com".to_owned()));
            assert_eq!(me(live, &bob).await?, (200, "bob@example.com".to_owned()));
            Ok(())
        }

        async fn nobody_gets_in_without_a_session(&mut self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.get("/me").send().await?.status(), 401);
            let forged = Cookie::new("session", "8c2cbd30-8b02-4c5b-a7e2-2b6a44fb2d11");
            assert_eq!(me(live, &forged).await?.0, 401);
            assert_eq!(live.get("/login/guessed").send().await?.status(), 401);
            Ok(())
        }

        async fn a_link_works_once(&mut self, live: &LiveServer) -> Result<()> {
            let link = link(live, "alice@example.com").await?;
            assert_eq!(live.get(&link).send().await?.status(), 303);
            assert_eq!(live.get(&link).send().await?.status(), 401);
            Ok(())
        }

        async fn a_link_and_a_session_grow_too_old(&mut self, live: &LiveServer) -> Result<()> {
            let link = link(live, "alice@example.com").await?;
            let session = log_in(live, "bob@example.com").await?;
            let client = live.pool().get().await?;
            client.execute("UPDATE codes SET made_at = made_at - interval '15 minutes'", &[]).await?;
            client.execute("UPDATE sessions SET made_at = made_at - interval '14 days'", &[]).await?;

            assert_eq!(live.get(&link).send().await?.status(), 401);
            assert_eq!(me(live, &session).await?.0, 401);
            Ok(())
        }

        async fn a_logout_ends_its_own_session(&mut self, live: &LiveServer) -> Result<()> {
            let here = log_in(live, "alice@example.com").await?;
            let elsewhere = log_in(live, "alice@example.com").await?;
            let left = live.post("/logout").cookie(here.clone()).send().await?;
            assert_eq!(left.status(), 204);
            assert_eq!(left.cookie("session").unwrap().value(), "");

            assert_eq!(me(live, &here).await?.0, 401);
            assert_eq!(me(live, &elsewhere).await?.0, 200);
            Ok(())
        }

        async fn strangers_get_the_same_answer_and_no_mail(&mut self, live: &LiveServer) -> Result<()> {
            let asked = live.post("/login").send_form(&[("email", "mallory@example.com")]).await?;
            assert_eq!(asked.status(), 202);
            let mails = live.pool().get().await?.query("SELECT FROM mails", &[]).await?;
            assert!(mails.is_empty());
            Ok(())
        }

        async fn scripts_and_other_sites_never_see_the_cookie(&mut self, live: &LiveServer) -> Result<()> {
            let cookie = log_in(live, "alice@example.com").await?;
            assert_eq!(cookie.http_only(), Some(true));
            assert_eq!(cookie.secure(), Some(true));
            assert_eq!(cookie.same_site().unwrap().to_string(), "Lax");
            Ok(())
        }
    }
}

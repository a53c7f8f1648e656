//! The application: its routes, and the one function that serves them.

use std::net::TcpListener;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use deadpool_postgres::Pool;

use crate::errors::{self, ApiError};
use crate::handlers::{todos, transfers, users};
use crate::request_id::request_id;

/// Serves the application on `listener` until it is told to stop.
pub(crate) fn run(listener: TcpListener, pool: Pool) -> std::io::Result<Server> {
    let pool = web::Data::new(pool);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(pool.clone())
            .configure(routes)
            .wrap(from_fn(request_id))
    });
    Ok(server.listen(listener)?.run())
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .app_data(web::JsonConfig::default().error_handler(errors::malformed_body))
        .app_data(web::QueryConfig::default().error_handler(errors::malformed_query))
        .app_data(web::PathConfig::default().error_handler(errors::malformed_path))
        .service(web::resource("/users").route(web::post().to(users::create)))
        .service(web::resource("/users/{id}").route(web::get().to(users::read)))
        .service(
            web::resource("/todos")
                .route(web::get().to(todos::list))
                .route(web::post().to(todos::create)),
        )
        .service(
            web::resource("/todos/{id}")
                .route(web::get().to(todos::read))
                .route(web::patch().to(todos::update))
                .route(web::delete().to(todos::delete)),
        )
        .service(web::resource("/transfers").route(web::post().to(transfers::create)))
        .default_service(web::to(async || Err::<&str, _>(ApiError::NotFound("page"))));
}

//! What the message list is measured against: a handler that sends the same bytes each time, through the same middleware,
//! on the same server. `constant ADDRESS FILE`, the file being a response body.

use std::sync::Arc;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{App, HttpResponse, web};
use bytes::Bytes;
use mailroom::web::{Config, Endpoints, host, metrics};

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(file)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: constant ADDRESS FILE");
    };
    let body = Bytes::from(std::fs::read(file)?);
    let config = Arc::new(Config::default());
    let endpoints = Endpoints::default();
    let workers = config.worker_threads();
    let app = move || {
        let body = body.clone();
        let send = move || {
            let body = body.clone();
            async move { HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(body) }
        };
        App::new()
            .route("/v1/mailboxes/{address}/messages", web::get().to(send))
            .wrap(host::OwnHost::new(&config, &Arc::default()))
            .wrap(metrics::Measure::new(endpoints.none.clone()))
    };
    actix_web::HttpServer::new(app).workers(workers).bind(address)?.run().await?;
    Ok(())
}

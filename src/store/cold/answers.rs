//! What a server says beside the bytes of an object: errors, and answers to writing. Used by the client of a bucket.
//!
//! The client keeps these whole, and reserves room for what their length pretends; here they are cut off first. The bytes of
//! an object are not touched: who reads them knows how many there may be.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService, ReqwestConnector,
};

/// Bytes of an answer that are kept; S3 takes some hundred.
const KEPT: usize = 16 << 10;

/// Connects as usual, and bounds the answers.
#[derive(Debug, Default)]
pub struct Bounded(ReqwestConnector);

impl HttpConnector for Bounded {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Answers(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Answers(HttpClient);

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Answers {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Answer<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let reads = request.method().as_str() == "GET";
            let response = self.0.execute(request).await?;
            if reads && response.status().is_success() {
                return Ok(response);
            }
            let (parts, body) = response.into_parts();
            Ok(HttpResponse::from_parts(parts, beginning(body).await?.into()))
        })
    }
}

/// As much of `body` as is kept, and whole characters if it is text.
async fn beginning(body: HttpResponseBody) -> Result<Bytes, HttpError> {
    let mut stream = body.bytes_stream();
    let mut kept = BytesMut::new();
    while let Some(chunk) = stream.try_next().await? {
        let room = KEPT - kept.len();
        kept.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if kept.len() == KEPT {
            let whole = std::str::from_utf8(&kept).map_or_else(|error| error.valid_up_to(), str::len);
            kept.truncate(whole);
            break;
        }
    }
    Ok(kept.freeze())
}

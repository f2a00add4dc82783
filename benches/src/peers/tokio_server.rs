//! A listener on tokio's runtime of a single thread, with a task for each connection.

use std::io;
use std::net::TcpListener;

use tokio::net::TcpStream;
use tokio::runtime::Builder;

pub(super) fn serve<F>(listener: TcpListener, connection: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(connection(stream));
        }
    })
}

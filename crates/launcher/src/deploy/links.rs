//! The edges of a deployment that leave it: the ends of channels to and from other TaskManagers, and their connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use flott_core::error::{Error, Result};
use flott_core::ids::JobId;
use flott_core::snapshot::ChannelAddress;
use flott_core::types::arrow_schema;
use flott_plan::job_graph::JobVertex;
use flott_runtime::{ChannelOptions, ChannelReceiver, ChannelSender, TaskWaker, channel_at};
use flott_taskmanager::network::{
    ClusterId, DataServer, IncomingChannel, IncomingLink, LinkId, NetworkOptions, OutgoingLink,
};

/// What a TaskManager needs to know of the others to run its part of a job.
#[derive(Clone)]
pub struct Network<'a> {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which TaskManager this is.
    pub me: u32,
    /// Data ports of all of them, `HOST:PORT`.
    pub peers: &'a [String],
    /// The TaskManager of every subtask, by vertex.
    pub places: &'a [Vec<u32>],
    /// The data port of this one.
    pub server: &'a Arc<DataServer>,
    /// Hears of a connection that breaks. Called from its threads: it must not be made to wait for whoever drops the [`Links`].
    pub on_broken: Arc<dyn Fn(Error) + Send + Sync>,
}

/// Ends of the channels to and from one other TaskManager.
struct End<T> {
    waker: TaskWaker,
    channels: Vec<T>,
}

impl<T> Default for End<T> {
    fn default() -> Self {
        End { waker: TaskWaker::new(), channels: Vec::new() }
    }
}

/// Ends of channels by the TaskManager that has the other half.
#[derive(Default)]
pub(super) struct Ends {
    outgoing: BTreeMap<u32, End<ChannelReceiver>>,
    incoming: BTreeMap<u32, End<IncomingChannel>>,
}

/// The connections of a deployment. Dropping it hangs up.
pub struct Links {
    server: Arc<DataServer>,
    outgoing: Vec<LinkId>,
    incoming: Vec<IncomingLink>,
}

/// What rows look like that leave a vertex.
pub(super) fn schema(vertex: &JobVertex) -> SchemaRef {
    arrow_schema(&vertex.chain.last().expect("a chain has a head").node.columns)
}

impl Ends {
    /// A channel whose reading end is sent to TaskManager `to`.
    pub(super) fn outgoing(
        &mut self,
        to: u32,
        address: ChannelAddress,
        options: ChannelOptions,
        writer: TaskWaker,
    ) -> (ChannelSender, ChannelReceiver) {
        let own = OutgoingLink::channel_options();
        let options = ChannelOptions { bytes_max: own.bytes_max.min(options.bytes_max), ..own };
        channel_at(address, options, writer, self.outgoing.entry(to).or_default().waker.clone())
    }
    /// Keeps that end.
    pub(super) fn sends(&mut self, to: u32, receiver: ChannelReceiver) {
        self.outgoing.entry(to).or_default().channels.push(receiver);
    }
    /// A channel that TaskManager `from` fills.
    pub(super) fn incoming(
        &mut self,
        from: u32,
        address: ChannelAddress,
        reader: TaskWaker,
    ) -> (ChannelSender, ChannelReceiver) {
        let waker = self.incoming.entry(from).or_default().waker.clone();
        channel_at(address, IncomingLink::channel_options(), waker, reader)
    }
    /// Keeps its writing end.
    pub(super) fn receives(&mut self, from: u32, sender: ChannelSender, schema: SchemaRef) {
        self.incoming.entry(from).or_default().channels.push(IncomingChannel { sender, schema });
    }
}

impl Network<'_> {
    /// The TaskManager of a subtask.
    pub(super) fn place_of(&self, vertex: usize, index: u32) -> u32 {
        self.places[vertex][index as usize]
    }

    /// Offers what others read, and asks them for what is read here. Nothing comes before [`Links::start`].
    pub(super) fn connect(&self, job: JobId, generation: u64, attempt: u32, ends: Ends) -> Result<Links> {
        let id = |producer, consumer| LinkId { job, generation, attempt, producer, consumer };
        let mut links = Links { server: Arc::clone(self.server), outgoing: Vec::new(), incoming: Vec::new() };
        // Offered before others are asked: they wait for this one as it waits for them.
        for (to, mut end) in ends.outgoing {
            end.channels.sort_by_key(ChannelReceiver::address);
            let id = id(self.me, to);
            self.server.register(OutgoingLink {
                id,
                channels: end.channels,
                waker: end.waker,
                on_broken: self.hears_of(&id),
            })?;
            links.outgoing.push(id);
        }
        for (from, mut end) in ends.incoming {
            end.channels.sort_by_key(|c| c.sender.address());
            let id = id(from, self.me);
            let address = self.peers.get(from as usize).ok_or_else(|| Error::bug("a place without a TaskManager"))?;
            let options = NetworkOptions::default();
            let hears = self.hears_of(&id);
            let link = IncomingLink::connect(address, self.cluster, id, end.channels, end.waker, &options, hears)?;
            links.incoming.push(link);
        }
        Ok(links)
    }

    fn hears_of(&self, id: &LinkId) -> Box<dyn FnOnce(Error) + Send> {
        let (on_broken, id) = (Arc::clone(&self.on_broken), *id);
        Box::new(move |e| on_broken(e.context(id)))
    }
}

impl Links {
    /// Lets elements come.
    pub(super) fn start(&mut self) -> Result<()> {
        self.incoming.iter_mut().try_for_each(IncomingLink::start)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.outgoing.iter().for_each(|id| self.server.close(id));
    }
}

//! Which pair of a policy is sent by. IKEv1 has no rule for two that both sides make at the same time, so both keep the same one by
//! their SPIs, each as soon as it knows that the other has both.

use std::time::{Duration, Instant};

use super::Connection;
use super::child::{Child, ChildState, Use};
use crate::event::Event;

/// How long a pair that we have renewed goes on receiving before we delete it: what the peer sent by it has arrived, and the
/// third message of the quick mode, which nobody acknowledges, has been asked for again if it was lost.
const REPLACED_BY_US: Duration = Duration::from_secs(10);
/// The same for one that the peer has renewed and should delete itself. Some keep it until its lifetime ends.
const REPLACED_BY_PEER: Duration = Duration::from_secs(180);
/// How far apart two pairs are made at most that crossed: as long as a message is sent again.
const MAY_HAVE_CROSSED: Duration = Duration::from_secs(60);

impl Child {
    /// Whether the quick modes of both were under way at the same time, each started by another side. Either side sees the
    /// same: that of the peer is a moment here, which lies within ours or not.
    fn overlaps(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.span, other.span);
        self.initiated != other.initiated && ours.0 <= theirs.1 && theirs.0 <= ours.1
    }

    /// What both sides order two pairs by that crossed: the same on either side, whichever SPI is whose.
    fn rank(&self) -> (u32, u32) {
        (self.spi_in.max(self.spi_out), self.spi_in.min(self.spi_out))
    }
}

impl Connection {
    /// The peer has this pair. The policy's traffic is sent by it from now on, unless it crossed with one that is kept. What it
    /// takes the place of goes, after a while.
    pub(crate) fn activate(&mut self, now: Instant, spi_in: u32) {
        let Some(child) = self.child_mut(spi_in) else { return };
        child.usable = Use::Free;
        child.unproved = None;
        child.proven = true;
        if child.active || !child.is_installed() {
            return;
        }
        let (name, initiated) = (child.config.name.clone(), child.initiated);
        let Some(this) = self.child(spi_in) else { return };
        let others = || self.children.iter().filter(|c| c.config.name == name && c.spi_in != spi_in);
        // One that crossed and that the peer may not have yet decides when it has.
        let waits = |c: &Child| c.overlaps(this) && !c.proven;
        let rival = others().find(|c| c.is_installed() && c.proven && c.overlaps(this));
        if rival.is_some_and(|rival| rival.rank() > this.rank()) {
            let stays = if initiated { REPLACED_BY_US } else { REPLACED_BY_PEER };
            return self.replace(spi_in, now + stays);
        }
        let newer: Vec<u32> = self
            .children
            .iter()
            .skip_while(|c| c.spi_in != spi_in)
            .filter(|c| c.config.name == name && c.is_installed() && !c.overlaps(this))
            .map(|c| c.spi_in)
            .collect();
        let go: Vec<(u32, bool, bool)> = others()
            .filter(|c| !newer.contains(&c.spi_in) && !waits(c))
            .map(|c| (c.spi_in, c.initiated, c.overlaps(this)))
            .collect();
        for child in self.children.iter_mut().filter(|c| c.config.name == name) {
            child.active = child.spi_in == spi_in;
        }
        self.events.push_back(Event::ActivateChild { spi_in });
        for (spi, of_ours, crossed) in go {
            // Of two that crossed, whoever made the one that goes deletes it.
            let by_us = if crossed { of_ours } else { initiated };
            let stays = if by_us { REPLACED_BY_US } else { REPLACED_BY_PEER };
            self.replace(spi, now + stays);
        }
    }

    /// Another pair has taken its place.
    fn replace(&mut self, spi_in: u32, until: Instant) {
        if let Some(child) = self.child_mut(spi_in) {
            let until = match child.state {
                ChildState::Replaced(before) => before.min(until),
                ChildState::Installed => until,
            };
            child.state = ChildState::Replaced(until);
            child.usable = Use::Free;
            child.unproved = None;
        }
        self.forget_tasks(spi_in);
    }

    /// The peer deletes a pair. If it has not noticed that another took its place, or has noticed that it crossed with one
    /// where we have not, it keeps the one that we have taken for replaced: messages that overtook each other look like that.
    pub(crate) fn revive_crossed(&mut self, spi_in: u32) {
        let Some(gone) = self.child(spi_in).filter(|c| c.is_installed()) else { return };
        let (name, initiated, made) = (gone.config.name.clone(), gone.initiated, gone.span.1);
        let apart = |c: &Child| c.span.1.max(made).saturating_duration_since(c.span.1.min(made));
        let near = |c: &Child| c.initiated != initiated && apart(c) < MAY_HAVE_CROSSED;
        let mut others =
            self.children.iter_mut().rev().filter(|c| c.config.name == name && c.spi_in != spi_in);
        if let Some(child) = others.find(|c| near(c)) {
            child.state = ChildState::Installed;
        }
    }
}

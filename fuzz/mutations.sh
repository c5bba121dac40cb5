#!/usr/bin/env bash
# Takes one check after the other out of a copy of the tree and runs the tests: each time one has to fail. A mutation
# is a name, a file and a Perl substitution that must change the file; it has to compile. ONLY=text runs those whose
# name contains it.
set -euo pipefail
cd "$(dirname "$0")/.."

mutations=(
  'nonces compared the wrong way round|ike/src/v2/request.rs|s{ni\.min\(nr\) < self\.lowest}{ni.min(nr) > self.lowest}'
  'nonces of the initiators alone compared|ike/src/v2/request.rs|s{lowest: ni\.min\(nr\)\.to_vec\(\)}{lowest: (ni, nr).0.to_vec()}; s{ni\.min\(nr\) < self}{(ni, nr).0 < self}'
  'AUTH of the initiator not checked|ike/src/v2/responder.rs|s{if auth::equal\(&expected, value\)}{if auth::equal(&expected, value) || !value.is_empty()}'
  'AUTH of the responder not checked|ike/src/v2/initiator.rs|s{if !auth::equal\(&expected, value\)}{if !auth::equal(&expected, value) && value.is_empty()}'
  'AUTH of the responder signs no nonce of ours|ike/src/v2/initiator.rs|s{&state\.answer, &state\.nonces\.0, sa\.sk_p\(\)\.1}{&state.answer, &state.nonces.1, sa.sk_p().1}'
  'identity of the responder not checked|ike/src/v2/initiator.rs|s{if \*id != config\.remote_id \{}{if *id != config.remote_id && id.data.is_empty() \{}'
  'requests served before AUTH|ike/src/v2/receive.rs|s{\(Phase::AwaitAuth\(_\) \| Phase::AuthSent\(_\), _\) => return self\.counters\.dropped \+= 1,}{}'
  'Delete of a Child SA not sent|ike/src/v2/tasks.rs|s{(Task::DeleteChild\(spi_in, reason\) => )self\.request_delete\(now, host, spi_in, reason\),}{$1drop((spi_in, reason)),}'
  'Delete of an IKE_SA not sent|ike/src/v2/rekey_ike.rs|s{self\.send_request\(now, host, spi, ExchangeType::INFORMATIONAL, &delete, Request::DeleteIke\);}{drop((now, host, delete));}'
  'Delete of a Child SA answered without ours|ike/src/v2/informational.rs|s{if !delete_ike && !ours\.is_empty\(\)}{if delete_ike && !ours.is_empty()}'
  'Delete of a Child SA not carried out|ike/src/v2/informational.rs|s{self\.remove_child\(spi_in, if replaced.*?\);}{let _ = replaced;}s'
  'Delete of an IKE_SA not answered|ike/src/v2/informational.rs|s{(        )(self\.respond_with\(now, host, spi, header\.exchange, header\.message_id, &out\);)}{$1if !delete_ike \{ $2 \}}'
  'Message ID of requests not checked|ike/src/v2/exchange.rs|s{id\.wrapping_sub\(self\.expected\) < self\.windows\.ours}{id.wrapping_sub(self.expected) < 1000 * self.windows.ours}'
  'Message ID of requests reused|ike/src/v2/exchange.rs|s{if self\.stored_answer\(id\)\.is_some\(\) \{}{if self.stored_answer(id).is_some_and(<[_]>::is_empty) \{}; s{id\.wrapping_sub\(self\.expected\) < self\.windows\.ours}{id.wrapping_add(1).wrapping_sub(self.expected) <= self.windows.ours}'
  'answers of one request kept, whatever the window|ike/src/v2/exchange.rs|s{while self\.answers\.len\(\) >= self\.windows\.ours as usize}{while !self.answers.is_empty()}'
  'the peer'"'"'s window without a bound|ike/src/v2/window.rs|s{size\.min\(MAX_WINDOW\)}{size.min(1000 * MAX_WINDOW)}'
  'the peer'"'"'s window exceeded|ike/src/v2/exchange.rs|s{wrapping_sub\(p\.id\) < self\.windows\.theirs}{wrapping_sub(p.id) < 2 * self.windows.theirs}'
  'requests about one policy side by side|ike/src/v2/window.rs|s{!same_policy && !same_pair}{!same_policy \|\| !same_pair}'
  'a rekeying of the IKE_SA beside others|ike/src/v2/window.rs|s{Task::RekeyIke \| Task::Liveness => sa\.exchanges\.idle\(\)}{Task::RekeyIke \| Task::Liveness => sa.exchanges.has_room()}'
  'an old synchronization taken|ike/src/v2/sync.rs|s{asked\.send < unused \|\| before}{before}'
  'a synchronization with an ID that another had|ike/src/v2/sync.rs|s{asked\.send <= known\.send}{asked.send < known.send}'
  'a late synchronization answered|ike/src/v2/sync.rs|s{known == asked && known\.send == unused}{known == asked}'
  'synchronizations without a bound|ike/src/v2/sync.rs|s{last\.at \+ APART <= now}{last.at <= now}'
  'a synchronization that was not agreed on|ike/src/v2/sync.rs|s{self\.sync\.message_ids\s+&& !matches}{!matches}'
  'used IDs asked with again after a synchronization|ike/src/v2/sync.rs|s{asked\.receive\.max\(sa\.exchanges\.next_id\(\)\)}{asked.receive}'
  'the last ID gone on with|ike/src/v2/sync.rs|s{asked\.send > HIGHEST \|\| asked\.receive > HIGHEST}{asked.send.min(asked.receive) > HIGHEST}'
  'what is under way not asked anew|ike/src/v2/sync.rs|s{for request in pending \{}{for request in pending.into_iter().take(0) \{}'
  'more than a synchronization in its message|ike/src/v2/sync.rs|s{_ => return None,}{_ => {}}'
  'a replay counter advanced twice|ike/src/v2/sync.rs|s{sa\.sync\.acted\(now, Some\(\(asked, answer\.clone\(\)\)\)\);}{}'
  'Message ID of responses not checked|ike/src/v2/exchange.rs|s{(position|find)\(\|p\| p\.id == id\)}{$1(|p| p.id == id || id > 0)}g'
  'exchange of responses not checked|ike/src/v2/receive.rs|s{if expected == header\.exchange}{if expected.0 > 0}'
  'initiator flag not checked|ike/src/v2/ike_sa.rs|s{header\.from_initiator != self\.initiator\s+&& header\.receiver_spi\(\) == self\.spi_local}{(header.receiver_spi() == self.spi_local || header.from_initiator == self.initiator)}'
  'ICV of IKE messages not checked (CBC)|ike/src/crypto/sk.rs|s{if !expected\.get\(\.\.icv\.len\(\)\)\.is_some_and\(\|e\| equal\(e, icv\)\)}{if !expected.get(..icv.len()).is_some_and(|e| e.len() == icv.len() \|\| equal(e, icv))}'
  'ICV of ESP packets not checked (AEAD)|esp/src/transform/aead.rs|s{context\.cipher_final\(&mut \[\]\)\.map\(drop\)\.map_err\(\|_\| TransformError::Icv\)}{let _ = context.cipher_final(&mut []).map_err(|_| TransformError::Icv); Ok(())}'
  'ICV of ESP packets not checked (HMAC)|esp/src/transform/mac.rs|s{openssl::memcmp::eq\(want, icv\)}{openssl::memcmp::eq(want, icv) || !icv.is_empty()}'
  'replays not recognised|esp/src/replay.rs|s{if self\.block\(sequence\) & bit\(sequence\) != 0}{if self.block(sequence) & bit(sequence) != 0 && sequence == 0}'
  'what is behind the replay window taken|esp/src/replay.rs|s{if self\.top - sequence >= self\.size}{if self.top - sequence >= self.size.saturating_mul(1000)}'
  'replay window moved before the ICV is checked|esp/src/inbound.rs|s{self\.window\.check\(at\.sequence\)}{self.window.accept(at.sequence)}; s{(open\(packet, at\).*?)self\.window\.accept\(at\.sequence\)\.map_err\(replay\)\?;}{$1}s'
  'inbound selectors not checked|esp/src/inbound.rs|s{if !self\.selectors\.matches_inbound\(&info\)}{if !self.selectors.matches_inbound(&info) && info.len == 0}'
  'inbound selectors exchanged|esp/src/selector.rs|s{matches_any\(&self\.remote, packet\.source, packet\.protocol, packet\.source_port\)\s+&& matches_any\(&self\.local, packet\.destination}{matches_any(&self.local, packet.source, packet.protocol, packet.source_port) && matches_any(&self.remote, packet.destination}'
  'padding not checked|esp/src/inbound.rs|s{(\.is_none_or\(\|expected\| padding != expected\)) \{}{$1 && padding.len() > 255 \{}'
  'the key of another SA gone on with|esp/src/transform/contexts.rs|s{(word\(a\) \^ word\(b\)\)\)) == 0}{$1 < u64::MAX}'
  'the key of an SA left behind|esp/src/transform/contexts.rs|s{(fn drop\(&mut self\) \{\s+)self\.forget\(\);}{$1}'
  'cookie not checked|ike/src/reception.rs|s{is_some_and\(\|c\| equal\(&c, got\)\)}{is_some_and(|c| equal(&c, got) \|\| c.len() == got.len())}'
  'cookie not bound to the address|ike/src/reception.rs|s{\[&\[version\], nonce, &ip, }{[&[version], nonce, &ip[..0], }'
  'narrowed selectors not checked|ike/src/v2/accept.rs|s{if !within\(local, &config\.local\) \|\| !within\(remote, &config\.remote\)}{if local.is_empty() \|\| remote.is_empty() \|\| (false && within(local, remote))}'
  'choice not held against the offer|ike/src/proposal/negotiate.rs|s{kinds\.windows\(2\)\.all\(\|w\| w\.first\(\) != w\.last\(\)\)}{(kinds.len() < 99)}'
  'group of the answer not checked|ike/src/proposal/negotiate.rs|s{if !with_group && answer}{if with_group && answer}'
  'MODP values not checked|ike/src/crypto/dh.rs|s{theirs <= BigNum::from_u32\(1\)\? \|\| theirs >= limit}{theirs >= (&limit + &limit)}'
  'public values checked after the key pair is made|ike/src/v2/ike_sa.rs|s{    dh::check_public\(group, peer\)\?;\n}{}'
  'low-order points taken|ike/src/crypto/dh.rs|s{if LOW_ORDER_X25519\.contains\(&masked\)}{if masked.is_empty()}; s{let secret = Zeroizing::new\(deriver\.derive_to_vec\(\)\.map_err\(bad\)\?\);\s+if secret\.iter\(\)\.all\(\|&b\| b == 0\) \{}{let secret = Zeroizing::new(deriver.derive_to_vec().unwrap_or_else(|_| vec![0; 32])); if secret.is_empty() \{}'
  'errors about single packets end the IKE_SA|ike/src/v2/informational.rs|s{find\(\|kind\| GIVES_UP\.contains\(kind\)\)}{find(|kind| kind.is_error() \|\| GIVES_UP.contains(kind))}'
  'unknown SPIs kept without a bound|ike/src/v2/informational.rs|s{deleted_unknown\.len\(\) < MAX_CHILDREN}{deleted_unknown.len() < 1000 * MAX_CHILDREN}'
  'cookies of any length returned|ike/src/v2/initiator.rs|s{if odd \|\| rules}{if (odd && header.length == 0) \|\| rules}'
  'pair of a lost answer not found at once|ike/src/v2/answer_child.rs|s{None if asked\.any\(\|request\| matches!\(request, Request::Child\(_\)\)\)}{None if asked.any(|request| matches!(request, Request::DeleteIke))}'
  'fragments taken where not agreed on|ike/src/v2/ike_sa.rs|s{fragment\.is_some\(\) && !self\.fragments}{fragment.is_none() && message.header.length == 0}'
  'NAT detection without the port|ike/src/v2/nat.rs|s{data\.extend_from_slice\(&addr\.port\(\)\.to_be_bytes\(\)\);}{}'
  'payloads in plain believed|ike/src/v2/ike_sa.rs|s{chain\.encrypted\.is_some\(\)}{message.chain.payloads.len() > 999}; s{Ok\(\(message\.header, chain\.payloads\)\)}{Ok((message.header, [message.chain.payloads.clone(), chain.payloads].concat()))}'
  'fragments without a bound|ike/src/v2/fragment.rs|s{if size <= limit}{if size <= 1000 * limit}; s{if size > limit}{if size > 1000 * limit}'
  'repeated INVALID_KE_PAYLOAD without a bound|ike/src/v2/initiator.rs|s{init\.restarts > MAX_INIT_RESTARTS}{init.restarts > 1000 * MAX_INIT_RESTARTS}'
  'IKE_SAs without a bound|ike/src/v2/rekey_ike.rs|s{if self\.sas\.len\(\) >= MAX_IKE_SAS}{if self.sas.len() >= 1000 * MAX_IKE_SAS}'
  'IKE_SAs of our own without a bound|ike/src/v2/rekey_ike.rs|s{while self\.sas\.len\(\) >= MAX_IKE_SAS}{while self.sas.len() >= 1000 * MAX_IKE_SAS}'
  'an IKE_SA used that the peer has deleted|ike/src/v2/rekey_ike.rs|s{if !self\.is_active\(passive\)}{if !self.is_active(passive) && self.sas.is_empty()}'
  'Child SAs without a bound|ike/src/v2/answer_child.rs|s{self\.children\.len\(\) >= MAX_CHILDREN}{self.children.len() >= 1000 * MAX_CHILDREN}'
  'mode of the answer not checked|ike/src/v2/mode.rs|s{if peer != config\.mode}{if peer != config.mode && payloads.0.is_empty()}'
  'transport mode where ESP goes in UDP|ike/src/mode.rs|s{if encapsulates \{}{if encapsulates && local_ts.is_empty() \{}'
  'transport mode of others than the ends|ike/src/mode.rs|s{\(!host\(local_ts, local\) \|\| !host\(remote_ts, remote\)\)}{(local_ts.is_empty() && (!host(local_ts, local) \|\| !host(remote_ts, remote)))}'
  'fragments sealed in transport mode|esp/src/transport.rs|s{& ANY_FRAGMENT != 0}{& ANY_FRAGMENT == ANY_FRAGMENT}'
  'padding of transport mode left in|esp/src/transport.rs|s{payload\.get\(\.\.len\)}{payload.get(..len.max(payload.len()))}'
  'a second gateway let in where the first is kept|ike/src/v2/responder.rs|s{!config\.uniqueness\.admits\(\*up, from\)}{!config.uniqueness.admits(*up, from) && up.port() == 0}'
  'a delete that is owed waited for without end|ike/src/v2/tasks.rs|s{\.is_some_and\(owed\)}{.is_some_and(\|c\| owed(\&c) \&\& spi_in == 0)}'
  'unknown attributes of transforms ignored|ike/src/wire/sa.rs|s{transform\.unknown_attribute = true;}{transform.unknown_attribute = kind == 0;}'
  'the hard lifetime of an IKE_SA without effect|ike/src/v2/tasks.rs|s{self\.close\(now, host, CloseReason::Failed\(failure\)\);}{drop((now, host, CloseReason::Failed(failure)));}'
  'the end of a rekeyed pair that was the last not noticed|ike/src/supervise/restore.rs|s{let decided = }{let decided = reason == ChildEnd::Rekeyed \|\| }'
  'INITIAL_CONTACT said beside another connection|ike/src/v2/initiator.rs|s{if host\.connected\(&config\)\.is_none\(\)}{if host.connected(&config).is_none() \|\| !config.name.is_empty()}'
  'a connection without a Child SA taken for a success|ike/src/supervise/mod.rs|s{is_some_and\(\|since\| since \+ PROVEN <= now\)}{is_none_or(|since| since + PROVEN <= now)}'
  'a refused rekeying taken for a busy peer|ike/src/v2/tasks.rs|s{PutOff::Refused => \(0, REFUSED_LAST\)}{PutOff::Refused => (tries.busy + 1, REFUSED_LAST)}'
  'a policy that is narrowed told as covered|ike/src/v2/parts.rs|s{let gap = if whole \|\| down}{let gap = if whole \|\| down \|\| self.initiator}'
  'retransmissions not authenticated|ike/src/v2/receive.rs|s{let Some\(fragment\) = sa\.authentic\(datagram\.bytes\) else \{ return self\.counters\.dropped \+= 1 \};}{let fragment = sa.authentic(datagram.bytes).unwrap_or_default();}'
  'IKEv1: HASH_R not checked|ike/src/v1/initiator.rs|s{if !equal\(&expected, hash\)}{if !equal(&expected, hash) && hash.is_empty()}'
  'IKEv1: HASH_I of aggressive mode not checked|ike/src/v1/respond_aggressive.rs|s{is_some_and\(\|hash\| equal\(hash, &proof\)\)}{is_some_and(|hash| equal(hash, &proof) \|\| !hash.is_empty())}'
  'IKEv1: HASH_I of main mode not checked|ike/src/v1/respond_main.rs|s{let proved = equal\(&of\.proof\(skeyid, true, id\)\?, hash\);}{let proved = equal(&of.proof(skeyid, true, id)?, hash) \|\| !hash.is_empty();}'
  'IKEv1: identity of the responder not checked|ike/src/v1/initiator.rs|s{if !is\(id, &config\.remote_id\)}{if !is(id, &config.remote_id) && id.data.is_empty()}'
  'IKEv1: identity of the initiator not checked|ike/src/v1/respond_main.rs|s{is\(&opened\.id, &config\.remote_id\)}{is(&opened.id, &config.remote_id) \|\| !opened.id.data.is_empty()}'
  'IKEv1: hashes of phase 2 not checked|ike/src/v1/ike_sa.rs|s{if equal\(hash, &expected\) =>}{if equal(hash, &expected) \|\| !hash.is_empty() =>}'
  'IKEv1: HASH(1) not checked|ike/src/v1/ike_sa.rs|s{if equal\(hash, &expected\) =>}{if equal(hash, &expected) \|\| matches!(proof, Proof::First) =>}'
  'IKEv1: HASH(2) not checked|ike/src/v1/ike_sa.rs|s{if equal\(hash, &expected\) =>}{if equal(hash, &expected) \|\| matches!(proof, Proof::Second(_)) =>}'
  'IKEv1: HASH(3) not checked|ike/src/v1/ike_sa.rs|s{if equal\(hash, &expected\) =>}{if equal(hash, &expected) \|\| matches!(proof, Proof::Third(..)) =>}'
  'IKEv1: nonces taken twice|ike/src/v1/answer_child.rs|s{\|\| !sa\.see_nonce\(nonce\)}{\|\| (!sa.see_nonce(nonce) && nonce.is_empty())}'
  'IKEv1: Message IDs of quick modes taken twice|ike/src/v1/answer_child.rs|s{!full && !sa\.is_seen\(header\.message_id\)}{!full}; s{if !sa\.see\(header\.message_id\) \|\|}{if (!sa.see(header.message_id) && nonce.is_empty()) \|\|}'
  'IKEv1: Message IDs of notifies taken twice|ike/src/v1/informational.rs|s{connected\.is_none\(\) && sa\.is_seen\(id\)}{connected.is_none() && sa.is_seen(id) && id == 0}; s{connected\.is_none\(\) && !sa\.see\(id\)}{connected.is_none() && !sa.see(id) && id == 0}'
  'IKEv1: commit bit of the initiator ignored|ike/src/v1/answer_child.rs|s{answered\.commit \|\| header\.commit}{answered.commit && header.commit && false}'
  'IKEv1: commit bit of the responder ignored|ike/src/v1/request_child.rs|s{let commit = header\.commit;}{let commit = header.commit && header.message_id == 0;}'
  'IKEv1: CONNECTED of any exchange taken|ike/src/v1/informational.rs|s{quick\.ike == spi && quick\.id == id\);\n            self}{quick.ike == spi && (quick.id == id \|\| id != 0));\n            self}'
  'IKEv1: phase 2 looked at before phase 1 is done|ike/src/v1/receive.rs|s{(self\.note_objection\(now, header\);\s+)self\.repeat_answer\(datagram, true\);}{$1self.quick_mode(now, host, 0, header, datagram);}'
  'IKEv1: group of phase 2 not held against the offer|ike/src/v1/accept.rs|s{&& only\.group == group}{&& (only.group == group \|\| only.spi_out != 0)}; s{choose_esp\(&config\.proposals, proposals, group\.is_some\(\)\)}{choose_esp(&config.proposals, proposals, false)}'
  'IKEv1: group of aggressive mode not held against the offer|ike/src/v1/initiator.rs|s{if choice\.group != sent\.dh\.group\(\)}{if choice.group == 0}'
  'IKEv1: a key without its group taken|ike/src/v1/answer_child.rs|s{\.filter\(\|o\| o\.group\.is_some\(\) == has_key\)}{.filter(|o| o.group.is_some() == has_key \|\| o.group.is_none())}'
  'IKEv1: subnets of the request not checked|ike/src/v1/answer_child.rs|s{Traffic::of\(policy\)\.contains\(&traffic\)}{(Traffic::of(policy).contains(&traffic) \|\| !traffic.local.is_empty())}'
  'IKEv1: subnets of the answer not checked|ike/src/v1/request_child.rs|s{if within\(&local, &config\.local\) && within\(&remote, &config\.remote\)}{if within(&local, &config.local) \|\| within(&remote, &config.remote)}'
  'IKEv1: strangers sent more than they send|ike/src/v1/handshake.rs|s{if handshake\.initiator \|\| \*went \+ octets <= \*came}{if handshake.initiator \|\| *went + octets <= 1000 * *came}'
  'IKEv1: first message not answered again|ike/src/v1/receive.rs|s{return self\.repeat_answer\(datagram, false\);}{}'
  'IKEv1: two transforms of an answer taken|ike/src/v1/accept.rs|s{let \(\[only\], \[proposal\]\) = \(offers\.as_slice\(\)}{let ([only, ..], [proposal]) = (offers.as_slice()}; s{&& proposal\.transforms\.len\(\) == 1}{&& !proposal.transforms.is_empty()}'
  'IKEv1: method of the answer not checked|ike/src/v1/accept.rs|s{&& only\.method == offer::Method::PreSharedKey\.value\(\)}{}'
  'IKEv1: uniqueness not looked at|ike/src/v1/responder.rs|s{match host\.connected\(config\)\.filter\(\|up\| !config}{match host.connected(config).filter(|up| up.port() == 0 && !config}'
  'IKEv1: keys tried without a bound|ike/src/v1/respond_main.rs|s{for config in candidates\.iter\(\)\.take\(MAX_CANDIDATES\)}{for config in candidates.iter().take(1000 * MAX_CANDIDATES)}'
  'IKEv1: strangers of aggressive mode refused at once|ike/src/v1/respond_aggressive.rs|s{Some\(Err\(NoPeer::Unknown\)\) \| None => Ok\(\(None, decoy\)\)}{Some(Err(NoPeer::Unknown)) \| None => Err(unknown())}'
  'IKEv1: IKE_SAs without a bound|ike/src/v1/handshake.rs|s{while self\.sas\.len\(\) > MAX_IKE_SAS}{while self.sas.len() > 1000 * MAX_IKE_SAS}'
  'IKEv1: fragments without a bound|ike/src/v1/fragment.rs|s{if octets > MAX_OCTETS}{if octets > 1000 * MAX_OCTETS}'
  'IKEv1: quick modes lost with their IKE_SA|ike/src/v1/mod.rs|s{if !self\.waits\(&task\) \{\n\s+self\.queue_again}{if self.waits(&task) \{\n self.queue_again}'
  'IKEv1: pairs that crossed not told|ike/src/v1/crossed.rs|s{self\.initiated != other\.initiated && ours}{self.initiated != other.initiated && self.spi_in == 0 && ours}'
  'IKEv1: IKE_SAs that crossed not told|ike/src/v1/ike_sa.rs|s{self\.initiator != newer\.initiator && newer}{self.initiator != newer.initiator && self.spi_local == 0 && newer}'
  'IKEv1: of two that crossed one kept that the peer may not have|ike/src/v1/crossed.rs|s{c\.overlaps\(this\) && !c\.proven}{c.overlaps(this) && !c.proven && c.spi_in == 0}; s{c\.is_installed\(\) && c\.proven && c\.overlaps}{c.is_installed() && c.overlaps}'
  'IKEv1: a pair sent by before the peer has it|ike/src/v1/answer_child.rs|s{self\.install_child\(agreed, Use::Free, \(now, now\)\);}{self.install_child(agreed, Use::Free, (now, now)); self.activate(now, spi_in);}'
  'IKEv1: any acknowledgement of liveness taken|ike/src/v1/liveness.rs|s{&& \(probe\.first\.\.probe\.next\)\.contains\(&number\)}{&& (number > 0 \|\| probe.sent > 0)}'
  'IKEv1: INITIAL-CONTACT believed at any time|ike/src/v1/informational.rs|s{sa\.since \+ FRESH > now}{sa.since + 1000 * FRESH > now}'
  'IKEv1: a peer not behind a NAT moves|ike/src/verbs.rs|s{nat\.peer_may_move\(\) && floated && remote}{remote}'
)

target=${CARGO_TARGET_DIR:-$PWD/target}/mutations
tree=$target/tree
rm -rf "$tree" && mkdir -p "$tree"
git ls-files -z | xargs -0 cp --parents -t "$tree"
# A target of its own: Cargo takes the copy's crates for those of the tree, and would take mutated code for fresh there. The
# dependencies are built in it once, which takes minutes and 2 GB; the copy's own crates again and again.
export CARGO_TARGET_DIR=$target/target CARGO_INCREMENTAL=1
jobs=${JOBS:+-j$JOBS}
run() { (cd "$tree" && cargo nextest run -p ike -p esp -p sim --features ike/test-hooks --locked --offline $jobs "$@"); }

command -v cargo-nextest >/dev/null || { echo "needs cargo-nextest"; exit 1; }
echo "the tests as they are"
run >"$tree/log" 2>&1 || { tail -n 40 "$tree/log"; echo "they fail without any mutation"; exit 1; }

missed=0
for mutation in "${mutations[@]}"; do
  name=${mutation%%|*}; rest=${mutation#*|}; file=${rest%%|*}; edit=${rest#*|}
  [[ $name == *"${ONLY:-}"* ]] || continue
  perl -0pe "$edit" "$file" >"$tree/$file"
  if cmp -s "$file" "$tree/$file"; then
    verdict='NOT APPLIED: the substitution matches nothing'; missed=1
  elif ! run --no-run >"$tree/log" 2>&1; then
    verdict="DOES NOT COMPILE: $(grep -m1 '^error' "$tree/log")"; missed=1
  elif run --max-fail=1 >"$tree/log" 2>&1; then
    verdict='NOT NOTICED'; missed=1
  else
    verdict=$(sed -nE 's/^ *(FAIL|TIMEOUT|SIGABRT) \[[^]]*\] *(\([^)]*\))? *//p' "$tree/log" | head -n 1)
    [[ -n $verdict ]] || { verdict='FAILED WITHOUT A TEST'; missed=1; }
  fi
  cp "$file" "$tree/$file"
  printf '%-46s %s\n' "$name" "$verdict"
done
exit $missed

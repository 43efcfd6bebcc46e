"""IKEv2 without I/O: bytes, answers and the time in; datagrams, commands and events out.

From the outside to the inside:

- ``endpoint`` is the face; ``reception`` and ``gatekeeper`` look after new peers;
  ``config``, ``commands``, ``events`` and ``views`` are what crosses the border.
- ``peering`` holds what belongs to one connection: its IKE SAs and its tunnels; ``tunnel`` the
  Child SAs of one of these, and which of them carries our traffic. ``session`` drives one IKE
  SA (``sa``): ``courier`` for its messages, ``tasks`` for its flows, ``window`` and
  ``channel`` below them.
- ``flows`` has one file per exchange, both sides in it, the wire picture on top. ``flow`` says
  how they are written, ``negotiation`` what IKE_AUTH and CREATE_CHILD_SA have in common.
- ``keymat``, ``auth``, ``ppk``, ``nat``, ``cookies``, ``states``: one rule-set each, without
  any state of their own but the cookies' secret.
- ``registry``, ``wire``, ``payloads``, ``message``, ``encrypted``, ``proposals``,
  ``selectors``, ``identity``: octets and what they mean.

A function of ``flows`` reads as the RFC's picture does; limits stand in ``limits``, each with
its source; a rule carries its RFC section where it is applied.
"""
